"""Every setting, the file that holds them, and what is said when it is wrong."""
