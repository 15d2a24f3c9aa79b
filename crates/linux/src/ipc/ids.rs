//! Ids, keys and rights of System V IPC objects (Linux 6.18 ipc/util.c).
//!
//! An id is a place in a table and a sequence number, so that the id of an object that is gone
//! does not soon mean another. [`Ids`] is the table, [`Perm`] what every object in it has.

use crate::task::Capability;
use crate::task::creds::{Creds, Id};
use kilburn_addr::Errno;
use std::collections::BTreeMap;

/// `IPC_PRIVATE`: the key of objects that no key finds.
pub(crate) const PRIVATE: i32 = 0;
/// `IPC_CREAT`
pub(crate) const CREAT: i32 = 0o1000;
/// `IPC_EXCL`
pub(crate) const EXCL: i32 = 0o2000;
/// Most objects of a kind that a limit may allow (`ipc_mni`).
pub(crate) const MNI: u32 = 1 << SEQ_SHIFT;

/// Bits of an id below its sequence number.
const SEQ_SHIFT: u32 = 15;
/// Sequence numbers there are (`ipcid_seq_max`).
const SEQUENCES: u32 = i32::MAX as u32 >> SEQ_SHIFT;
/// Places are used in turn among at least this many (`ipc_min_cycle`).
const MIN_CYCLE: u32 = 64;
/// `S_IRWXUGO`
const RIGHTS: u32 = 0o777;

/// Who made an object, who owns it and what they may do (Linux `struct kern_ipc_perm`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Perm {
    pub(crate) key: i32,
    pub(crate) id: i32,
    pub(crate) uid: Id,
    pub(crate) gid: Id,
    pub(crate) cuid: Id,
    pub(crate) cgid: Id,
    pub(crate) mode: u32,
    pub(crate) seq: u32,
}

impl Perm {
    /// Whether `creds` may do what all three digits of `wanted` ask (`ipcperms`).
    ///
    /// # Errors
    /// EACCES.
    pub(crate) fn check(&self, creds: &Creds, wanted: i32) -> Result<(), Errno> {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) as u32;
        let granted = if creds.euid == self.cuid || creds.euid == self.uid {
            self.mode >> 6
        } else if creds.in_group(self.cgid) || creds.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 0o7 == 0 || creds.has_cap(Capability::IpcOwner) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether `creds` may change or remove the object (`ipcctl_obtain_check`).
    ///
    /// # Errors
    /// EPERM.
    pub(crate) fn check_owner(&self, creds: &Creds) -> Result<(), Errno> {
        let owner = creds.euid == self.cuid || creds.euid == self.uid;
        if owner || creds.has_cap(Capability::SysAdmin) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Changes owner and rights (`ipc_update_perm`).
    ///
    /// # Errors
    /// EINVAL for an id that stands for nobody.
    pub(crate) fn update(&mut self, uid: Id, gid: Id, mode: u32) -> Result<(), Errno> {
        if uid == Id::MAX || gid == Id::MAX {
            return Err(Errno::EINVAL);
        }
        (self.uid, self.gid) = (uid, gid);
        self.mode = self.mode & !RIGHTS | mode & RIGHTS;
        Ok(())
    }
}

/// An object of some kind.
pub(crate) trait Object {
    /// What all objects have.
    fn perm(&self) -> &Perm;
}

/// All objects of one kind (Linux `struct ipc_ids`).
pub(crate) struct Ids<T> {
    objects: BTreeMap<u32, T>,
    keys: BTreeMap<i32, u32>,
    /// Where the search for a free place goes on.
    cursor: u32,
    last: Option<u32>,
    seq: u32,
    /// The id that the next object shall get (`/proc/sys/kernel/*_next_id`).
    pub(crate) next_id: Option<i32>,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            cursor: 0,
            last: None,
            seq: 0,
            next_id: None,
        }
    }
}

/// The place that an id names.
fn place_of(id: i32) -> u32 {
    id as u32 & (MNI - 1)
}

impl<T: Object> Ids<T> {
    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// All objects, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.objects.values()
    }

    /// The highest place in use (`ipc_get_maxidx`).
    pub(crate) fn highest_place(&self) -> Option<u32> {
        self.objects.last_key_value().map(|(place, _)| *place)
    }

    /// The object that `key` finds.
    pub(crate) fn find(&self, key: i32) -> Option<&T> {
        self.objects.get(self.keys.get(&key)?)
    }

    /// The object at the place that `id` names, whatever its sequence number
    /// (`ipc_obtain_object_idr`).
    ///
    /// # Errors
    /// EINVAL when there is none.
    pub(crate) fn at_place(&self, id: i32) -> Result<&T, Errno> {
        self.objects.get(&place_of(id)).ok_or(Errno::EINVAL)
    }

    /// The object with this id (`ipc_obtain_object_check`).
    ///
    /// # Errors
    /// EINVAL when there is none.
    pub(crate) fn get(&self, id: i32) -> Result<&T, Errno> {
        let object = self.at_place(id)?;
        let same = object.perm().seq == id as u32 >> SEQ_SHIFT;
        if same { Ok(object) } else { Err(Errno::EINVAL) }
    }

    /// As [`Self::get`], to be changed.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn get_mut(&mut self, id: i32) -> Result<&mut T, Errno> {
        self.get(id)?;
        self.objects.get_mut(&place_of(id)).ok_or(Errno::EINVAL)
    }

    /// Adds an object of `creds` that `make` makes from its [`Perm`] (`ipc_addid`); its id.
    ///
    /// # Errors
    /// ENOSPC when there are `limit` objects already.
    pub(crate) fn add(
        &mut self,
        key: i32,
        mode: i32,
        creds: &Creds,
        limit: u32,
        make: impl FnOnce(Perm) -> T,
    ) -> Result<i32, Errno> {
        if self.objects.len() >= limit.min(MNI) as usize {
            return Err(Errno::ENOSPC);
        }
        let (place, seq) = self.allocate().ok_or(Errno::ENOSPC)?;
        let id = ((seq << SEQ_SHIFT) + place) as i32;
        let (uid, gid) = (creds.euid, creds.egid);
        let mode = mode as u32 & RIGHTS;
        let object = make(Perm { key, id, uid, gid, cuid: uid, cgid: gid, mode, seq });
        self.objects.insert(place, object);
        if key != PRIVATE {
            self.keys.insert(key, place);
        }
        Ok(id)
    }

    /// Finds a free place and the sequence number that goes with it (`ipc_idr_alloc`).
    fn allocate(&mut self) -> Option<(u32, u32)> {
        if let Some(id) = self.next_id.take() {
            let place = (place_of(id)..MNI).find(|place| !self.objects.contains_key(place))?;
            return Some((place, id as u32 >> SEQ_SHIFT));
        }
        let end = (self.objects.len() as u32 * 3 / 2).clamp(MIN_CYCLE, MNI);
        let from_cursor = self.cursor.min(end)..end;
        let place = from_cursor.chain(0..end).find(|place| !self.objects.contains_key(place))?;
        self.cursor = place + 1;
        if self.last.is_some_and(|last| place <= last) {
            self.seq = (self.seq + 1) % SEQUENCES;
        }
        self.last = Some(place);
        Some((place, self.seq))
    }

    /// Has no key find the object any more (`ipc_set_key_private`).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn hide(&mut self, id: i32, change: impl FnOnce(&mut T)) -> Result<(), Errno> {
        let key = self.get(id)?.perm().key;
        if key != PRIVATE {
            self.keys.remove(&key);
        }
        change(self.get_mut(id)?);
        Ok(())
    }

    /// Takes the object out (`ipc_rmid`).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn remove(&mut self, id: i32) -> Result<T, Errno> {
        let key = self.get(id)?.perm().key;
        if key != PRIVATE {
            self.keys.remove(&key);
        }
        self.objects.remove(&place_of(id)).ok_or(Errno::EINVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(Perm);

    impl Object for Thing {
        fn perm(&self) -> &Perm {
            &self.0
        }
    }

    fn add(ids: &mut Ids<Thing>, key: i32) -> i32 {
        ids.add(key, 0o600, &Creds::root(), 4096, Thing).expect("room")
    }

    #[test]
    fn places_are_used_in_turn_and_the_sequence_grows_on_the_way_back() {
        let mut ids = Ids::default();
        for expected in 0..64 {
            let id = add(&mut ids, PRIVATE);
            assert_eq!(id, expected);
            ids.remove(id).map(drop).expect("just made");
        }
        assert_eq!(add(&mut ids, PRIVATE), 1 << SEQ_SHIFT);
        assert_eq!(ids.get(0).map(|_| ()), Err(Errno::EINVAL));
        assert!(ids.at_place(0).is_ok());
        assert_eq!(ids.at_place(1).map(|_| ()), Err(Errno::EINVAL));
    }

    #[test]
    fn a_wished_id_is_given_once() {
        let mut ids = Ids { next_id: Some(7 << SEQ_SHIFT | 5), ..Ids::default() };
        assert_eq!(add(&mut ids, PRIVATE), 7 << SEQ_SHIFT | 5);
        assert_eq!(add(&mut ids, PRIVATE), 0);
        ids.next_id = Some(9 << SEQ_SHIFT | 5);
        assert_eq!(add(&mut ids, PRIVATE), 9 << SEQ_SHIFT | 6);
    }

    #[test]
    fn every_place_can_be_in_use_at_once() {
        let mut ids = Ids::default();
        for _ in 0..4096 {
            add(&mut ids, PRIVATE);
        }
        let full = ids.add(PRIVATE, 0, &Creds::root(), 4096, Thing);
        assert_eq!(full, Err(Errno::ENOSPC));
        assert_eq!(ids.highest_place(), Some(4095));
    }

    #[test]
    fn a_hidden_object_is_found_by_its_id_alone() {
        let mut ids = Ids::default();
        let id = add(&mut ids, 42);
        ids.hide(id, |thing| thing.0.key = PRIVATE).expect("there");
        assert!(ids.find(42).is_none());
        assert!(ids.get(id).is_ok());
    }

    #[test]
    fn rights_are_those_of_the_first_class_that_fits() {
        let perm = Perm { key: 1, id: 0, uid: 5, gid: 6, cuid: 7, cgid: 8, mode: 0o064, seq: 0 };
        let who = |euid, fsgid| Creds { euid, fsgid, cap_effective: 0, ..Creds::root() };
        assert_eq!(perm.check(&who(5, 8), 0o444), Err(Errno::EACCES));
        assert_eq!(perm.check(&who(9, 8), 0o666), Ok(()));
        assert_eq!(perm.check(&who(9, 9), 0o444), Ok(()));
        assert_eq!(perm.check(&who(9, 9), 0o666), Err(Errno::EACCES));
        assert_eq!(perm.check(&Creds::root(), 0o777), Ok(()));
    }
}
