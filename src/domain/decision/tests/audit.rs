//! The hash chain: every change is found, and the first entry that is wrong is named.

use proptest::prelude::*;

use super::*;
use crate::domain::canonical::{hex, sha256};

#[derive(Clone)]
struct Row {
    seq: u64,
    kind: EntryKind,
    body: Vec<u8>,
    hash: Hash,
}

/// A chain of `length` entries of all kinds but checkpoints, and its head.
fn chain(length: u64) -> (Vec<Row>, ChainHead) {
    let mut head = ChainHead::default();
    let rows = (1..=length).map(|seq| {
        let kind = EntryKind::ALL[usize::try_from(seq % 5).unwrap()];
        let body = format!("{{\"n\":{seq}}}").into_bytes();
        head = head.append(kind, &body);
        Row { seq, kind, body, hash: head.hash }
    });
    (rows.collect(), head)
}

fn verify(start: ChainHead, rows: &[Row], head: &ChainHead) -> Result<ChainHead, BrokenLink> {
    let mut verifier = ChainVerifier::new(start);
    for Row { seq, kind, body, hash } in rows {
        verifier.push(*seq, *kind, body, hash)?;
    }
    verifier.finish(head)
}

fn broken(rows: &[Row], head: &ChainHead) -> (u64, BreakKind) {
    let error = verify(ChainHead::default(), rows, head).unwrap_err();
    (error.seq, error.what)
}

#[test]
fn the_hash_of_an_entry_is_over_previous_number_kind_and_body() {
    let mut input = vec![7; 32];
    input.extend([0, 0, 0, 0, 0, 0, 1, 2, 1]);
    input.extend(b"body");
    assert_eq!(link(&[7; 32], 258, EntryKind::Decision, b"body"), sha256(&input));
    let first = ChainHead::default().append(EntryKind::Decision, b"");
    let want = "293815c24025e7cc38b4e00cd8e915cc539ab4c892f74e50eae6b21543cbbd8d";
    assert_eq!((first.seq, hex(&first.hash).as_str()), (1, want));
    for kind in EntryKind::ALL {
        assert_eq!(EntryKind::from_byte(kind.as_byte()), Some(kind), "{}", kind.as_str());
    }
    assert_eq!((EntryKind::from_byte(0), EntryKind::from_byte(8)), (None, None));
}

#[test]
fn a_sound_chain_verifies_and_so_does_an_empty_one() {
    let (rows, head) = chain(20);
    assert_eq!(verify(ChainHead::default(), &rows, &head), Ok(head));
    assert_eq!(verify(ChainHead::default(), &[], &ChainHead::default()), Ok(ChainHead::default()));
}

#[test]
fn a_changed_byte_names_its_entry() {
    let (rows, head) = chain(9);
    for at in 0..9_usize {
        for byte in 0..rows[at].body.len() {
            let mut changed = rows.clone();
            changed[at].body[byte] ^= 1;
            assert_eq!(broken(&changed, &head), (at as u64 + 1, BreakKind::Changed));
        }
        let mut kind = rows.clone();
        kind[at].kind = EntryKind::Checkpoint;
        assert_eq!(broken(&kind, &head), (at as u64 + 1, BreakKind::Changed), "another kind");
        let mut hash = rows.clone();
        hash[at].hash[31] ^= 1;
        assert_eq!(broken(&hash, &head), (at as u64 + 1, BreakKind::Changed), "another hash");
    }
}

#[test]
fn a_changed_entry_with_a_hash_that_fits_it_breaks_the_next_one_or_the_head() {
    let (rows, head) = chain(5);
    let forge = |at: usize| {
        let mut rows = rows.clone();
        let previous = if at == 0 { GENESIS } else { rows[at - 1].hash };
        rows[at].body = b"forged".to_vec();
        rows[at].hash = link(&previous, rows[at].seq, rows[at].kind, b"forged");
        rows
    };
    assert_eq!(broken(&forge(1), &head), (3, BreakKind::Changed));
    assert_eq!(broken(&forge(4), &head), (5, BreakKind::Extra));
}

#[test]
fn a_removed_row_is_named_wherever_it_was() {
    let (rows, head) = chain(9);
    for at in 0..9_usize {
        let mut fewer = rows.clone();
        fewer.remove(at);
        let want = match at {
            0 => BreakKind::Unanchored,
            8 => BreakKind::Truncated,
            _ => BreakKind::Gap,
        };
        assert_eq!(broken(&fewer, &head), (at as u64 + 1, want));
    }
    let mut moved = rows.clone();
    moved.remove(3);
    for row in &mut moved[3..] {
        row.seq -= 1;
    }
    assert_eq!(broken(&moved, &head), (4, BreakKind::Changed), "numbered anew");
}

#[test]
fn swapped_rows_name_the_first_of_them() {
    let (rows, head) = chain(9);
    let mut contents = rows.clone();
    contents.swap(2, 6);
    (contents[2].seq, contents[6].seq) = (3, 7);
    assert_eq!(broken(&contents, &head), (3, BreakKind::Changed), "contents and hashes");
    let mut bodies = rows.clone();
    let body = std::mem::take(&mut bodies[2].body);
    bodies[2].body = std::mem::replace(&mut bodies[6].body, body);
    assert_eq!(broken(&bodies, &head), (3, BreakKind::Changed), "bodies only");
    let mut order = rows.clone();
    order.swap(2, 3);
    assert_eq!(broken(&order, &head), (3, BreakKind::Gap), "order of reading");
    let mut twice = rows.clone();
    twice.insert(4, rows[3].clone());
    assert_eq!(broken(&twice, &head), (4, BreakKind::Order), "a row twice");
}

#[test]
fn a_truncated_tail_and_an_added_one_are_found_against_the_head() {
    let (rows, head) = chain(9);
    for length in 0..9_usize {
        assert_eq!(broken(&rows[..length], &head), (length as u64 + 1, BreakKind::Truncated));
    }
    let shorter = ChainHead { hash: rows[6].hash, seq: 7 };
    assert_eq!(broken(&rows, &shorter), (8, BreakKind::Extra));
    let error = verify(ChainHead::default(), &rows[..3], &head).unwrap_err().to_string();
    assert_eq!(
        error,
        "audit entry 4 does not verify: the entry and all after it are missing; compare it with a backup"
    );
}

#[test]
fn a_deleted_start_needs_a_checkpoint_that_names_it() {
    let (rows, head) = chain(6);
    let start = ChainHead { hash: rows[3].hash, seq: 4 };
    let rest = rows[4..].to_vec();
    let error = verify(start, &rest, &head).unwrap_err();
    assert_eq!((error.seq, error.what), (5, BreakKind::Unanchored), "no checkpoint");
    let with = |checkpoint: Checkpoint| {
        let body = checkpoint.encode();
        let end = head.append(EntryKind::Checkpoint, &body);
        let mut rows = rest.clone();
        rows.push(Row { seq: end.seq, kind: EntryKind::Checkpoint, body, hash: end.hash });
        (rows, end)
    };
    let checkpoint = Checkpoint { count: 4, hash: start.hash, seq: 4 };
    assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
    let (rows, end) = with(checkpoint);
    assert_eq!(verify(checkpoint.start(), &rows, &end), Ok(end));
    assert_eq!(broken(&rows, &end), (1, BreakKind::Unanchored), "started from the beginning");
    let (rows, end) = with(Checkpoint { hash: [1; 32], ..checkpoint });
    assert_eq!(verify(start, &rows, &end).unwrap_err().what, BreakKind::Unanchored, "names another hash");
    let start = ChainHead { hash: [1; 32], seq: 4 };
    assert_eq!(verify(start, &rows, &end).unwrap_err().what, BreakKind::Changed, "starts from another hash");
}

proptest! {
    #[test]
    fn any_change_of_a_chain_is_found_at_or_before_its_place(
        length in 2usize..30, at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), how in 0u8..4,
    ) {
        let (rows, head) = chain(length as u64);
        let (at, other) = (at.index(length), other.index(length));
        let mut changed = rows.clone();
        match how {
            0 => changed[at].body.push(b' '),
            1 => { changed.remove(at); }
            2 => changed.truncate(at),
            _ => changed.swap(at, other),
        }
        if how == 3 && at == other {
            return Ok(());
        }
        let (seq, _) = broken(&changed, &head);
        prop_assert_eq!(seq, at.min(if how == 3 { other } else { at }) as u64 + 1);
    }
}
