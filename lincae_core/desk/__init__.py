"""A mixing desk in the browser on compressed stems: `lincae desk`."""
