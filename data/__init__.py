"""Where data sets come from. `data_utils` offers everything here that is public under one name.

mnist         MNIST, and IDX files
cifar         CIFAR-10, from its folder or its archive
digits_mat    the course's digits.mat
drawn_digits  digits that the program draws
toys          points in the plane, sequences with known answers
captioned_shapes  images of coloured shapes with captions
arrays        data of one's own in arrays and .npz files; parts of a data set, drawn class by class
tables        in CSV files and DataFrames
image_folder  in a folder of images with a folder a class
transforms    from images and labels to the numbers that a net takes
download      the folder of the data, the mirrors, the download
files         reading files of any origin: limits, gzip, tar
pickles       reading pickles without running them
matlab        reading MATLAB 5 files
"""

__all__ = []
