"""From a YAML to parts, steps and records: configuration, plan, ledger, and the running of one step of one part."""
