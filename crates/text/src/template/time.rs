//! `strftime`, for the dates that some templates put into their prompts. Times are UTC.

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Formats a time by C's conventions; a `%` that means nothing here stays as it is.
pub(super) fn format(unix_seconds: u64, format: &str) -> String {
    // No calendar reaches further than the year 9999; a larger number is a mistake, not a date.
    let seconds = unix_seconds.min(253_402_300_799);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[((days + 4) % 7) as usize];
    let hour12 = (hour + 11) % 12 + 1;

    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut letter = chars.next();
        let padded = letter != Some('-');
        if !padded {
            letter = chars.next();
        }
        let two = |number: u64| if padded { format!("{number:02}") } else { number.to_string() };
        let part = match letter {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => format!("{day:2}"),
            Some('H') => two(hour),
            Some('I') => two(hour12),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') | None => '%'.into(),
            Some(other) => format!("%{other}"),
        };
        text.push_str(&part);
    }
    text
}

/// Days since 1970 to year, month and day, by eras of 400 years that begin in March (Hinnant,
/// `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        let check = |seconds, format, expected: &str| assert_eq!(super::format(seconds, format), expected);
        check(0, "%Y-%m-%d %H:%M:%S %A", "1970-01-01 00:00:00 Thursday");
        check(951_782_400, "%d %b %Y", "29 Feb 2000");
        check(1_735_689_599, "%d %B %Y %I:%M %p", "31 December 2024 11:59 PM");
        check(1_721_952_000, "%-d %b %Y, %a %j%", "26 Jul 2024, Fri %j%");
        check(u64::MAX, "%F", "9999-12-31");
    }
}
