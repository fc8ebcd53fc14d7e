<<<<<<< HEAD
#![allow(missing_docs)]
fn main() {}
=======
//! Integration tests that need no cluster.

mod crds;
>>>>>>> part/api
