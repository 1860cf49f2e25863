"""`python -m experiments.spectra`: make the spectral libraries that ship anew."""

from experiments.spectra.library import write_libraries

if __name__ == "__main__":
    write_libraries()
