"""Networks, consistency sampling, weights and where they are found."""
