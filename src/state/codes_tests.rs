//! What a code of invitation counts as a use.

use rookery_wire::GroupAction;
use rookery_wire::join::{Join, Outside};

use super::Unwanted;
use super::command::ChangeKind;
use super::joining_tests::{Play, act, join};
use super::tests::{LIMITS, arrived, change, user};

/// What becomes of a user before its list refuses does not matter to the code: it was never in.
#[test]
fn a_full_list_gives_the_use_back_also_of_who_was_kept_out_or_removed_meanwhile() {
    let full = Unwanted::Full { most: 10 };
    let bar = |on| act(GroupAction::Bar { user: user("eve"), on });
    let out = change(ChangeKind::Remove, &["eve"]);
    // What an admin, or eve, does before her list refuses; whether she is kept out then.
    let (ann, eve) = ("ann", "eve");
    for (meanwhile, kept_out) in [
        (vec![(ann, bar(true))], true),
        (vec![(ann, bar(true)), (ann, bar(false))], false),
        (vec![(ann, out.clone())], false),
        (vec![(eve, out.clone())], false),
        (vec![(ann, bar(true)), (ann, out.clone())], true),
        (vec![(ann, out.clone()), (ann, bar(true))], true),
    ] {
        for refuses in [true, false] {
            let mut play = Play::with(Join::Closed);
            play.makes("ann", [7; 32], u64::MAX, 1);
            play.session.linked(&play.now(), &arrived(&play.session));
            play.can("eve", &join(Some([7; 32])));
            let came: Vec<_> =
                play.session.pending_intents().map(|intent| (intent.user, intent.link.version)).collect();
            for (who, does) in &meanwhile {
                play.can(who, does);
                play.reload();
            }
            assert_eq!(play.session.outside_after(Outside::Barred, None).count(), usize::from(kept_out));
            play.index += 1;
            if refuses {
                play.session.unlinked(&play.now(), &LIMITS, &came, full);
            } else {
                let took: Vec<_> =
                    came.iter().map(|(user, version)| (user.clone(), *version, true)).collect();
                play.session.linked(&play.now(), &took);
            }
            play.reload();
            // Once more, and what comes after it: nothing is given back twice, nor what stands.
            play.session.unlinked(&play.now(), &LIMITS, &came, full);
            play.session.linked(&play.now(), &arrived(&play.session));
            play.session.unlinked(&play.now(), &LIMITS, &came, full);
            let used: Vec<_> = play.session.codes_after(0).map(|code| code.used).collect();
            assert_eq!(used, [u32::from(!refuses)], "{meanwhile:?}");
            let barred: Vec<_> = play.session.outside_after(Outside::Barred, None).collect();
            assert_eq!(barred.len(), usize::from(kept_out), "{meanwhile:?}");
            play.reload();
            let known = if kept_out { 1 } else { 0 };
            assert_eq!(play.session.outside_after(Outside::Barred, None).count(), known);
        }
    }
}
