//! The library people use: models, sampling and answers.
#![forbid(unsafe_code)]
