"""The command line: names, options and help of what `cli.app` does not hold. It must stay quick to import."""
