"""What makes handgrad fast and safe. Nothing here is needed to understand a net.

Layers, models and the Solver call these modules; these modules call none of them.

    images       windows of images as matrices (im2col) and back
    products     matrix products in blocks that BLAS multiplies fast
    arrays, convolution, pooling   fast passes over arrays, named by what they compute
    parts        a batch that lies in parts
    passes       how a batch goes through a net: cut, spread over the workers, put together
    workers      threads that share a batch's work
    helpers      processes that share it where threads would wait for each other
    ranks        processes under mpiexec that train one net
    executors    other machines for a comparison: dask, MPI
    sequences    sequences as rows and back, step by step
    checks, sequence_checks, targets   validation of arguments
    errors       the wording of error messages
    checkpoints  saved runs
    resuming     a training that can be broken off at any moment
    diagnosis    what is wrong with a Solver's arguments, or why a loss diverged
    derivatives  numerical derivatives
    blackbox     functions of the user's, called on copies and watched
    events       event files of TensorBoard
    extras       optional packages
    html         tables as notebooks show them
    files        files that are written whole or not at all
    randomness   one seed for a run, one generator for each draw
"""
