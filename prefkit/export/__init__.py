"""Export: a version in the formats that trainers read, as files or as a folder for the Hub."""
