"""What a run did: funnel, reasons, data card."""
