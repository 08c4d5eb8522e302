"""xpdl."""
