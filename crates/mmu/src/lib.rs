//! Translation hardware: TLBs with ASIDs and the page-table walker.
