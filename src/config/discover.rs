//! What can be served with nothing but the environment?
