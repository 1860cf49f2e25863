"""What is each part of the training recipe worth? Short fits that lack one part each."""
