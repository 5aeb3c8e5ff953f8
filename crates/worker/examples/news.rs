//! Publish and subscribe: a channel's events go to all who have subscribed, and nobody has to know them. A slow reader misses the
//! oldest news, and can tell how many.

use std::error::Error;

use threadwire_worker::{
    Channel, EventLoop, Overflow, Remote, Stopped, Worker, join_all, update, wait_event,
};

#[derive(Clone)]
enum News {
    Headline(&'static str),
    End,
}
/// A reader has subscribed.
struct Ready;

/// Reads all there is. Returns how many headlines that were.
fn read(name: u32, news: &Channel<News>, editor: &Remote) -> Result<usize, Stopped> {
    news.subscribe();
    let _ = editor.fire(Ready);
    let mut count = 0;
    while let News::Headline(headline) = wait_event::<News>()?.data {
        println!("reader {name} reads: {headline}");
        count += 1;
    }
    Ok(count)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let news = Channel::new();
    let readers: Vec<_> = (1..=3)
        .map(|name| {
            let (news, here) = (news.clone(), EventLoop::current().remote());
            Worker::spawn(move || read(name, &news, &here))
        })
        .collect();
    for _ in &readers {
        wait_event::<Ready>()?;
    }

    let slow = news.subscribe_within(1, Overflow::DropOldest);
    for headline in ["Threads talk", "Nobody is blocked"] {
        assert_eq!(news.publish(News::Headline(headline)), 4);
    }
    news.publish(News::End);
    for ended in join_all(readers)? {
        assert_eq!(ended.done(), Some(2));
    }
    update()?;
    println!("who reads slowly has missed {}", slow.missed());
    assert_eq!(slow.missed(), 2);
    slow.unsubscribe();
    assert_eq!(news.publish(News::End), 0, "all have left");
    Ok(())
}
