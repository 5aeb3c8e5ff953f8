//! Market data: messages as a stock exchange sends them, generated, and the same for the same seed.

use std::fmt::Write as _;

/// Traded symbols, and their approximate prices.
const SYMBOLS: [(&str, f64); 8] = [
    ("BTC-USD", 67_250.0),
    ("ETH-USD", 3_480.0),
    ("SOL-USD", 171.0),
    ("EUR-USD", 1.085),
    ("AAPL", 226.4),
    ("MSFT", 431.2),
    ("NVDA", 127.9),
    ("SPY", 571.3),
];

/// Levels of each side of an order book. With them a message has about 16 KiB.
const DEPTH: usize = 300;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A trade and the prices after it: about 300 bytes.
    Trade,
    /// The whole of an order book: about 16 KiB.
    Book,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Kind; 2] = [Kind::Trade, Kind::Book];

    /// The name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Trade => "300 B",
            Kind::Book => "16 KiB",
        }
    }
}

/// A feed of messages.
#[derive(Clone, Debug)]
pub(crate) struct Market {
    random: u64,
    prices: [f64; SYMBOLS.len()],
    sequence: u64,
    /// Since 1970, in microseconds.
    time: u64,
}

impl Market {
    /// A feed that begins at some moment of its own.
    pub(crate) fn new(seed: u64) -> Market {
        let mut market = Market {
            random: seed,
            prices: SYMBOLS.map(|(_, price)| price),
            sequence: 8_000_000_000 + seed * 1_000_003,
            time: 1_763_640_000_000_000 + seed * 977_131,
        };
        // Prices differ from feed to feed.
        for price in 0..SYMBOLS.len() {
            market.prices[price] *= 0.9 + 0.2 * market.unit();
        }
        market
    }

    /// The next message.
    pub(crate) fn next(&mut self, kind: Kind) -> String {
        self.sequence += 1 + self.below(3);
        self.time += 40 + self.below(90_000);
        let symbol = self.below(SYMBOLS.len() as u64) as usize;
        // The price moves by a few hundredths of a percent.
        self.prices[symbol] *= 1.0 + 0.0006 * (self.unit() - 0.5);
        match kind {
            Kind::Trade => self.trade(symbol),
            Kind::Book => self.book(symbol),
        }
    }

    fn trade(&mut self, symbol: usize) -> String {
        let (name, price, tick) = (SYMBOLS[symbol].0, self.prices[symbol], tick(self.prices[symbol]));
        let (bid, ask, digits) = (price - tick, price + tick, decimals(tick));
        let side = if self.below(2) == 0 { "buy" } else { "sell" };
        let [size, bid_size, ask_size] = [(); 3].map(|()| self.size());
        let (maker, account) = (self.below(1 << 32), self.below(1 << 16));
        let volume = 90_000.0 + 9_000.0 * self.unit();
        let (sequence, trade, time) = (self.sequence, self.sequence / 7, self.clock());
        format!(
            "{{\"type\":\"trade\",\"sequence\":{sequence},\"symbol\":\"{name}\",\"price\":\"{price:.digits$}\",\
             \"size\":\"{size:.8}\",\"side\":\"{side}\",\"time\":\"{time}\",\"trade_id\":{trade},\
             \"maker\":\"{maker:08x}-{account:04x}\",\"bid\":\"{bid:.digits$}\",\"bid_size\":\"{bid_size:.8}\",\
             \"ask\":\"{ask:.digits$}\",\"ask_size\":\"{ask_size:.8}\",\"volume_24h\":\"{volume:.2}\"}}"
        )
    }

    fn book(&mut self, symbol: usize) -> String {
        let (name, price, tick) = (SYMBOLS[symbol].0, self.prices[symbol], tick(self.prices[symbol]));
        let mut out = format!(
            "{{\"type\":\"snapshot\",\"sequence\":{},\"symbol\":\"{name}\",\"time\":\"{}\"",
            self.sequence,
            self.clock(),
        );
        for (side, direction) in [("bids", -1.0), ("asks", 1.0)] {
            write!(out, ",\"{side}\":[").expect("a String takes all that is written to it");
            let mut level = price;
            for place in 0..DEPTH {
                level += direction * tick * (1 + self.below(4)) as f64;
                let comma = if place == 0 { "" } else { "," };
                let (digits, size, orders) = (decimals(tick), self.size(), 1 + self.below(12));
                write!(out, "{comma}[\"{level:.digits$}\",\"{size:.8}\",{orders}]")
                    .expect("a String takes all that is written to it");
            }
            out.push(']');
        }
        out.push('}');
        out
    }

    /// Most orders are round, and small.
    fn size(&mut self) -> f64 {
        match self.below(4) {
            0 => (1 + self.below(20)) as f64 / 10.0,
            1 => (1 + self.below(10)) as f64 * 5.0,
            _ => self.unit() * self.unit() * 8.0,
        }
    }

    /// The time of a day.
    fn clock(&self) -> String {
        let (seconds, micros) = (self.time / 1_000_000 % 86_400, self.time % 1_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        format!("2025-11-20T{hours:02}:{minutes:02}:{:02}.{micros:06}Z", seconds % 60)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// SplitMix64.
    fn number(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The smallest step of a price.
fn tick(price: f64) -> f64 {
    if price < 10.0 { 0.0001 } else { 0.01 }
}

fn decimals(tick: f64) -> usize {
    if tick < 0.01 { 4 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn messages_are_json_of_about_the_size_they_are_named_for() {
        for (kind, sizes) in [(Kind::Trade, 280..330), (Kind::Book, 15_000..19_000)] {
            let mut market = Market::new(7);
            for _ in 0..200 {
                let message = market.next(kind);
                assert!(serde_json::from_str::<Value>(&message).is_ok(), "{message}");
                assert!(sizes.contains(&message.len()), "{} bytes", message.len());
            }
        }
    }

    #[test]
    fn feeds_differ_and_each_is_the_same_again() {
        let trades = |seed| {
            let mut market = Market::new(seed);
            [(); 20].map(|()| market.next(Kind::Trade))
        };
        assert_eq!(trades(1), trades(1));
        assert_ne!(trades(1), trades(2));
        assert_ne!(trades(1)[0], trades(1)[1]);
    }
}
