//! Ids that are made go on from those that are kept: a clock that was set back changes no order.

use crate::completions::CompletionRecord;
use crate::decisions::DecisionRecord;
use crate::feedback::FeedbackRecord;
use crate::keys;
use crate::moments::Moments;
use crate::preferences::PreferenceRecord;
use crate::record::Record;
use crate::trees::Trees;
use crate::StoreError;
use attune_ids::RecordId;

/// Makes all further ids of this process greater than those of `trees`, and further moments no earlier. Reads
/// one record per tenant.
pub(super) fn keep_ids_above(trees: &Trees, moments: &Moments) -> Result<(), StoreError> {
    let of_tenants = [
        CompletionRecord::TREE,
        FeedbackRecord::TREE,
        PreferenceRecord::TREE,
    ];
    for tree in of_tenants {
        let mut before: Option<Vec<u8>> = None;
        while let Some(parts) = last(trees, tree, before.as_deref())? {
            let [tenant, id] = &parts[..] else { break };
            raise(id, moments);
            // All keys below this one are of other tenants.
            before = Some(keys::encode(&[tenant]));
        }
    }
    if let Some([id]) = last(trees, DecisionRecord::TREE, None)?.as_deref() {
        raise(id, moments);
    }
    Ok(())
}

/// The parts of the greatest key of `tree`, below `before`.
fn last(
    trees: &Trees,
    tree: &'static str,
    before: Option<&[u8]>,
) -> Result<Option<Vec<String>>, StoreError> {
    let entry = trees.view()?.page(tree, &[], before, true).next();
    let Some((key, _)) = entry.transpose()? else {
        return Ok(None);
    };
    Ok(keys::decode(&key))
}

fn raise(id: &str, moments: &Moments) {
    if let Ok(id) = RecordId::new(id) {
        id.keep_below();
        moments.saw(id.made_unix_ms().unwrap_or(0));
    }
}
