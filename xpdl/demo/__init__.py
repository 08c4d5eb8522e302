"""``xpdl demo``: a page on which a digit is drawn and recognised, served on this machine alone."""
