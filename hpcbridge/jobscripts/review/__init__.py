"""What goes wrong in job templates that are no error of Jinja2 or bash: habits and misspellings."""
