"""What the tool says to people: tables."""
