"""The Lin-CAE paper's own figures (arXiv 2510.23530, tables 1 and 2), for the rows beside ours."""

SOURCE = "arXiv 2510.23530"

# reconstruction, homogeneity, additivity (MSS); encoder homogeneity and additivity (relative L2). The first two on the
# paper's test data, additivity on MUSDB18-HQ.
LINEARITY = {
    "Music2Latent, public weights": (1.14, 2.52, 5.01, 12.13, 2.82),
    "Stable Audio VAE": (0.72, 3.03, 5.38, 4.59, 1.71),
    "Music2Latent, retrained": (0.98, 2.27, 5.21, 8.52, 2.73),
    "Lin-CAE": (1.01, 1.37, 0.99, 0.69, 0.60),
}

# MSS of reconstruction, bass, drums, other, vocals, on MUSDB18-HQ.
SEPARATION = {
    "Music2Latent, public weights": (1.16, 95.34, 28.08, 6.78, 5.10),
    "Stable Audio VAE": (0.57, 323.26, 87.80, 3.65, 3.08),
    "Music2Latent, retrained": (0.97, 39.56, 12.26, 5.30, 3.49),
    "Lin-CAE": (1.00, 1.58, 1.16, 1.21, 1.23),
}
