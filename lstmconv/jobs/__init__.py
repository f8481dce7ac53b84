"""Many files, each in a process that its file may bring down."""
