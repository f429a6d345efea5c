"""The measured tables of the README, one command each; the figures are printed as Markdown."""
