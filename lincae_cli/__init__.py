"""The `lincae` command: parses, checks, calls and reports. Arithmetic and models live elsewhere."""

import gc

gc.set_threshold(50_000)  # collections while click, numpy and h5py are imported take a tenth of a whole `lincae info`
