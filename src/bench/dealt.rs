//! Who is a member of which group, and who of them speaks: drawn with the seed, so that a run can be had again.

use std::collections::BTreeSet;

use anyhow::ensure;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Groups of users, both by number.
#[derive(Debug)]
pub(super) struct Dealt {
    /// Members of each group.
    pub(super) members: Vec<Vec<u32>>,
    /// Groups of each user, ascending.
    pub(super) groups: Vec<Vec<u32>>,
}

impl Dealt {
    /// `groups` groups of `members` each, dealt like cards: nobody is dealt to again before everybody was, so every user is in
    /// about the same number of groups.
    ///
    /// # Errors
    /// More members than users.
    pub(super) fn draw(seed: u64, users: u32, groups: u32, members: u32) -> anyhow::Result<Self> {
        ensure!(members <= users, "a group cannot have {members} members of {users} users online");
        let mut random = StdRng::seed_from_u64(seed);
        let mut dealt = Self { members: Vec::new(), groups: vec![Vec::new(); users as usize] };
        let mut deck: Vec<u32> = Vec::new();
        for group in 0..groups {
            let (mut chosen, mut aside) = (BTreeSet::new(), Vec::new());
            while chosen.len() < members as usize {
                match deck.pop() {
                    Some(user) if chosen.insert(user) => {}
                    Some(user) => aside.push(user),
                    None => {
                        deck.extend(0..users);
                        deck.shuffle(&mut random);
                    }
                }
            }
            // Whoever was in it already is among the first of the next.
            deck.append(&mut aside);
            for user in &chosen {
                if let Some(of_user) = dealt.groups.get_mut(*user as usize) {
                    of_user.push(group);
                }
            }
            let mut chosen: Vec<u32> = chosen.into_iter().collect();
            chosen.shuffle(&mut random);
            dealt.members.push(chosen);
        }
        Ok(dealt)
    }

    /// So many users who speak, each in all of its groups; fewer where there are not so many members. The groups take turns to
    /// name one, so with as many as there are groups hardly one is silent.
    pub(super) fn speakers(&self, wanted: u32) -> Vec<u32> {
        let (mut speak, mut speakers) = (vec![false; self.groups.len()], Vec::new());
        let mut left: Vec<_> = self.members.iter().map(|members| members.iter()).collect();
        let mut more = true;
        while more {
            more = false;
            for group in &mut left {
                if speakers.len() >= wanted as usize {
                    return speakers;
                }
                let next = group.find(|user| !speak.get(**user as usize).copied().unwrap_or(true));
                if let Some(user) = next {
                    speak[*user as usize] = true;
                    speakers.push(*user);
                    more = true;
                }
            }
        }
        speakers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_in_about_as_many_groups_and_nobody_twice_in_one() {
        for (seed, users, groups, members) in
            [(1, 4096, 1000, 10), (2, 7, 50, 5), (3, 5, 3, 5), (4, 10, 1, 3)]
        {
            let dealt = Dealt::draw(seed, users, groups, members).unwrap();
            assert_eq!(dealt.members.len(), groups as usize);
            for (group, of_group) in dealt.members.iter().enumerate() {
                let distinct: BTreeSet<_> = of_group.iter().collect();
                assert_eq!((of_group.len(), distinct.len()), (members as usize, members as usize));
                assert!(of_group.iter().all(|user| dealt.groups[*user as usize].contains(&(group as u32))));
            }
            let each = dealt.groups.iter().map(Vec::len);
            let (fewest, most) = (each.clone().min().unwrap(), each.clone().max().unwrap());
            assert!(most - fewest <= 1, "seed {seed}: between {fewest} and {most} groups a user");
            assert_eq!(each.sum::<usize>(), (groups * members) as usize);
            assert!(dealt.groups.iter().all(|groups| groups.is_sorted()));
            let again = Dealt::draw(seed, users, groups, members).unwrap();
            assert_eq!(again.members, dealt.members, "the seed says it all");
        }
        assert!(Dealt::draw(1, 4, 1, 5).is_err());
    }

    #[test]
    fn as_many_speakers_as_groups_leave_hardly_a_group_silent() {
        let dealt = Dealt::draw(5, 4096, 1000, 10).unwrap();
        let speakers = dealt.speakers(1000);
        assert_eq!(speakers.iter().collect::<BTreeSet<_>>().len(), 1000);
        let spoken: BTreeSet<_> = speakers.iter().flat_map(|user| &dealt.groups[*user as usize]).collect();
        assert_eq!(spoken.len(), 1000);
        assert_eq!(dealt.speakers(3).len(), 3);
        // No more than there are members, though more are asked for.
        assert_eq!(Dealt::draw(5, 10, 1, 4).unwrap().speakers(9).len(), 4);
    }
}
