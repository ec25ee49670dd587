"""What this machine has of what VidCap needs, and the line that mends what it lacks."""
