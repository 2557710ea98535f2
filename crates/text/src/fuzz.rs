//! Bodies of the fuzz targets: total functions of arbitrary bytes, which may refuse but never panic.
