//! Numbers with dots, slashes and underscores between their groups, and what is not one.

use proptest::prelude::*;

use super::mask_numbers;

#[test]
fn groups_after_dots_slashes_and_underscores_are_one_number() {
    for (raw, masked) in [
        ("TRF TO 0131.883.461 ADA", "TRF TO ****3461 ADA"),
        ("TRF/0131/883461/ADA", "TRF/****3461/ADA"),
        ("ref_0131_883_461", "ref_****3461"),
        ("1234.56.78903", "****8903"),
        ("12.34.56.789", "****6789"),
        ("GB29.NWBK.6016.1331.9268.19", "GB29.NWBK.****6819"),
        ("DE89/3704/0044/0532/0130/00", "DE****3000"),
        ("FR76_3000_6000_0112_3456_7890_189", "FR****0189"),
        ("60.16.13/31926819", "****6819"),
        ("0131.883-461", "****3461"),
        ("0131/88 3461", "****3461"),
        ("0131 88/3461", "****3461"),
        ("0131\u{ff0e}883\u{ff0f}461", "****3461"),
        ("\u{ff10}\u{ff11}\u{ff13}\u{ff11}.\u{ff18}\u{ff18}.\u{ff13}\u{ff14}", "****\u{ff18}\u{ff18}\u{ff13}\u{ff14}"),
        ("01.09.2026 0131/883461", "01.09.2026 ****3461"),
        ("12.50 0131/883461", "12.50 ****3461"),
        ("0131/883461 01.09.2026", "****3461 01.09.2026"),
        ("0131883461 01.09.2026", "****3461 01.09.2026"),
        ("0131/883461 2026-09-01", "****3461 2026-09-01"),
        ("99.99.2026", "****2026"),
        ("0131883461.0", "****3461.0"),
        ("12345678.90", "****5678.90"),
    ] {
        assert_eq!(mask_numbers(raw), masked, "{raw}");
    }
}

#[test]
fn dates_amounts_versions_paths_and_addresses_are_kept() {
    for kept in [
        "01/09/2026",
        "1.9.2026",
        "2026.11.29",
        "2026_11_29",
        "01.09.2026/30.09.2026",
        "01.09.2026 - 30.09.2026",
        "01.09.2026 10.15.00",
        "2026/11/29/10",
        "20261129_101500",
        "20261101/20261130",
        "2025/2026",
        "1234567.89",
        "1.08345",
        "12.345.678",
        "1.234.567,89",
        "12.50 13.60 200.00 1.5",
        "192.168.100.200",
        "192.168.100.200:8080",
        "10.100.200.0/24",
        "10.0.19041.1234",
        "v12.34.5678",
        "version 2026.1129.10",
        "/var/log/2026/1129/10",
        "https://bank.example/v1/2026/1129.10",
        "10:15:00.12345",
        "3/4",
        "12_34",
    ] {
        assert_eq!(mask_numbers(kept), kept);
    }
}

proptest! {
    #[test]
    fn a_number_is_masked_whatever_marks_group_it(
        digits in proptest::collection::vec(0..10u32, 6..28),
        marks in proptest::collection::vec(0..5usize, 28),
    ) {
        // No date and no amount begins with two zeros.
        let mut number = String::from("x00");
        for (digit, mark) in digits.iter().zip(&marks) {
            number.push_str(["", ".", "/", "_", "\u{ff0e}"][*mark]);
            number.push(char::from_digit(*digit, 10).unwrap());
        }
        number.push('7');
        let last: String = digits[digits.len() - 3..].iter().map(u32::to_string).collect();
        prop_assert_eq!(mask_numbers(&number), format!("x****{last}7"));
    }
}
