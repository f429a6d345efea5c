"""The measured tables of docs/results, one command each; the figures are printed as Markdown."""
