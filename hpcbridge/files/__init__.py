"""Files and directories that nobody else may read, change or lead elsewhere."""
