//! Text in columns, for people.

use comfy_table::presets::NOTHING;
use comfy_table::Table;

/// `rows` in lines whose cells begin at the same places, at least two spaces apart. Cells of one line each.
pub(super) fn in_columns<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    match table.is_empty() {
        true => String::new(),
        false => table.trim_fmt() + "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_begin_at_the_same_places() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [["a", "", "b"], ["long", "x", ""], ["", "", "c d"]].map(row);
        assert_eq!(in_columns(rows), "a        b\nlong  x\n         c d\n");
        assert_eq!(in_columns::<3>([]), "");
    }
}
