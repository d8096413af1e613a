"""What the report shows: one section is one file."""
