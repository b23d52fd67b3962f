"""What makes handgrad fast and safe. Nothing here is needed to understand a network.

The layers, models and the Solver call these modules; these modules call none of them.

    images      images in memory: windows as matrices (im2col) and back
    products    matrix products in blocks that BLAS multiplies fast
    workers     threads that share a batch; one BLAS thread; freed memory kept for reuse
    helpers     processes that share a batch where threads would wait for each other
    errors      the wording of error messages
    files       files that are written whole or not at all
    randomness  one seed for a run, one generator for each purpose
"""
