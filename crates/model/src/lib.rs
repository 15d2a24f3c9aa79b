//! A naive page-by-page reference memory manager, generators and the Linux oracle.
