//! The index from outside: what a search finds is what the query says of each record, at every moment of the feed,
//! after crashes and after damage.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod full;
mod gaps;
#[cfg(test)]
mod index;
#[cfg(test)]
mod paging;
#[cfg(test)]
mod property;
#[path = "../tell/mod.rs"]
mod tell;
