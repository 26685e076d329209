//! A file of its own for each test; what fails is made to fail by SQLite or the file system itself.
