//! Tests of displayed lists.

use super::*;
use crate::domain::Impression;

/// A journal in which users are shown items before and after the first entry of the item: items of
/// served lists, of reported lists, and of lists with relevance.
fn journal_of_early_impressions(is_reported: bool, relevance: Option<f32>) -> Vec<Entry> {
    let shown = |item: u64| ImpressionItem {
        position: u32::from(is_reported),
        relevance,
        model_score: relevance,
        ..ImpressionItem::new(format!("i{item}"), SourceName::Network)
    };
    (0..120)
        .flat_map(|round: u64| {
            let (user, timestamp) = (format!("u{}", round % 5), round as i64 * 1_000);
            let first = round / 6;
            let list = Impression {
                user_id: user.clone(),
                timestamp,
                items: (first..first + 8).map(shown).collect(),
                ..Impression::default()
            };
            let item = format!("i{}", first + round % 3);
            [Entry::Impression(list), Entry::Event(event_of_user(&user, "view", &item, timestamp + 1))]
        })
        .collect()
}

#[test]
fn what_a_displayed_list_teaches_does_not_depend_on_how_far_the_dictionary_is_ahead() {
    for (is_reported, relevance) in [(false, None), (true, None), (false, Some(2.0))] {
        let journal = journal_of_early_impressions(is_reported, relevance);
        let mut live = LearnerFixture::new(small_settings(), Arc::default(), None);
        live.apply(&journal);
        // The numbers of all items are known from the start, as after a restart.
        let mut rebuilt = LearnerFixture::new(small_settings(), Arc::clone(&live.dictionary), None);
        rebuilt.apply(&journal);
        assert!(live.state_bytes() == rebuilt.state_bytes(), "{is_reported} {relevance:?}");
        let clicked: u64 = live.learner.report().clickthrough.clicked.iter().flatten().sum();
        assert!(clicked > 0 || is_reported, "no click was counted");
    }
}
