//! Maglev tables: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
//!
//! A table has a prime number of slots; a packet's hash names a slot, a slot a target. Each target walks the slots in an
//! order of its own, made from a hash of its name, and takes the next free one when it is its turn: so the shares are
//! even, and when a target leaves, few slots of the others change hands.

/// Primes; the first two are those of the paper's section 5.3, halved and as they are.
const SIZES: [u32; 3] = [16_381, 65_537, 655_373];
/// Slots for the target of least weight: its share is off by less than one in a hundred then, and few slots of others
/// move when one leaves.
const SLOTS_FOR_LEAST: u64 = 200;

/// Somebody who gets a share of the slots.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Stable across tables: what the order of slots is made from.
    pub name: &'a [u8],
    /// Targets without weight get no slot.
    pub weight: u64,
    /// What the slots say.
    pub value: u32,
}

/// The slots; empty when no target has weight.
pub fn table(targets: &[Target<'_>]) -> Vec<u32> {
    let weighted: Vec<&Target<'_>> = targets.iter().filter(|target| target.weight > 0).collect();
    match &weighted[..] {
        [] => Vec::new(),
        [only] => vec![only.value],
        _ => fill(&weighted, size(&weighted)),
    }
}

/// How many slots such targets need.
fn size(targets: &[&Target<'_>]) -> u32 {
    let total: u128 = targets.iter().map(|target| u128::from(target.weight)).sum();
    let least = targets.iter().map(|target| target.weight).min().unwrap_or(1);
    let wanted = total * u128::from(SLOTS_FOR_LEAST) / u128::from(least);
    let enough = SIZES.into_iter().find(|&size| u128::from(size) >= wanted);
    enough.unwrap_or(SIZES[SIZES.len() - 1])
}

/// A target's walk over the slots.
struct Walk {
    next: u64,
    skip: u64,
    /// Turns earned and not taken, in units of `1 / greatest weight`.
    credit: u128,
}

fn fill(targets: &[&Target<'_>], size: u32) -> Vec<u32> {
    let slots = u64::from(size);
    let greatest = u128::from(targets.iter().map(|target| target.weight).max().unwrap_or(1));
    let walk = |target: &&Target<'_>| Walk {
        next: hash(target.name, 0x6f66_6673_6574) % slots,
        skip: hash(target.name, 0x736b_6970) % (slots - 1) + 1,
        credit: 0,
    };
    let mut walks: Vec<Walk> = targets.iter().map(walk).collect();
    let mut table: Vec<Option<u32>> = vec![None; size as usize];
    let mut free = size;
    loop {
        for (target, walk) in targets.iter().zip(&mut walks) {
            walk.credit += u128::from(target.weight);
            if walk.credit < greatest {
                continue;
            }
            walk.credit -= greatest;
            let place = loop {
                let place = walk.next;
                walk.next = (walk.next + walk.skip) % slots;
                if table[place as usize].is_none() {
                    break place;
                }
            };
            table[place as usize] = Some(target.value);
            free -= 1;
            if free == 0 {
                return table.into_iter().flatten().collect();
            }
        }
    }
}

/// FNV-1a, finished as MurmurHash3 does: the same on every machine and in every version.
fn hash(name: &[u8], seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let sum = name.iter().fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let sum = (sum ^ sum >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let sum = (sum ^ sum >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    sum ^ sum >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(count: u32) -> Vec<String> {
        (0..count).map(|index| format!("10.0.{}.{}:8080", index / 250, index % 250)).collect()
    }

    fn of(names: &[String], weight: impl Fn(u32) -> u64) -> Vec<u32> {
        let target = |(index, name)| {
            let name: &String = name;
            Target { name: name.as_bytes(), weight: weight(index), value: index + 1 }
        };
        table(&(0..).zip(names).map(target).collect::<Vec<_>>())
    }

    fn shares(table: &[u32]) -> BTreeMap<u32, f64> {
        let mut shares = BTreeMap::new();
        for value in table {
            *shares.entry(*value).or_insert(0.0) += 1.0 / table.len() as f64;
        }
        shares
    }

    #[test]
    fn equal_weights_get_equal_shares() {
        for count in [2, 3, 7, 100, 160, 500] {
            let shares = shares(&of(&names(count), |_| 1));
            assert_eq!(shares.len(), count as usize);
            for (value, share) in shares {
                let error = (share * f64::from(count) - 1.0).abs();
                assert!(error < 0.01, "{count} targets: the share of {value} is off by {error}");
            }
        }
    }

    #[test]
    fn shares_follow_weights() {
        let weights = [90, 9, 1];
        let shares = shares(&of(&names(3), |index| weights[index as usize]));
        for (value, weight) in (1..).zip(weights) {
            let error = (shares[&value] * 100.0 / weight as f64 - 1.0).abs();
            assert!(error < 0.015, "the share of {value} is off by {error}");
        }
        assert_eq!(of(&names(3), |index| u64::from(index == 1)), [2]);
        assert!(of(&names(3), |_| 0).is_empty() && of(&[], |_| 1).is_empty());
    }

    #[test]
    fn few_slots_of_others_change_hands_when_one_of_a_hundred_leaves() {
        let names = names(100);
        let (before, mut worst) = (of(&names, |_| 1), 0.0_f64);
        for leaving in [0, 1, 17, 50, 98, 99] {
            let after = of(&names, |index| u64::from(index != leaving));
            let stayed = before.iter().zip(&after).filter(|(was, _)| **was != leaving + 1);
            let (all, moved) = stayed.fold((0, 0), |(all, moved), (was, is)| (all + 1, moved + u32::from(was != is)));
            worst = worst.max(f64::from(moved) / f64::from(all));
        }
        println!("moved at most {:.2} % of the others", worst * 100.0);
        assert!(worst <= 0.01, "{worst}");
    }

    #[test]
    fn the_order_of_targets_matters_little_and_huge_weights_end() {
        let name = |index: u32| names(3)[index as usize].clone();
        let target = |name, weight| Target { name, weight, value: 1 };
        let (one, other) = (name(0), name(1));
        let slots = table(&[target(one.as_bytes(), u64::MAX), target(other.as_bytes(), 1)]);
        assert_eq!(slots.len(), 655_373);
    }
}
