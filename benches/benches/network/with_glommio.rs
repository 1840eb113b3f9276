//! Server and client as two glommio executors.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, spawn_local};

use crate::{ADDRESS, Case, Control, ECHO_BYTES, Trips};

pub(crate) fn run(case: Case, control: &Arc<Control>) -> Vec<u64> {
    let (listens, listening) = mpsc::channel();
    let for_server = Arc::clone(control);
    let server = LocalExecutorBuilder::new(Placement::Fixed(0)).spawn(move || async move {
        let listener = TcpListener::bind(ADDRESS).expect("a free port");
        let address = listener.local_addr().expect("it has one");
        listens.send(address).expect("the client waits");
        serve(listener, case, for_server).await;
    });
    let address = listening.recv().expect("the server listens");
    let for_client = Arc::clone(control);
    let client = LocalExecutorBuilder::new(Placement::Fixed(1)).spawn(move || async move {
        let mut streams = Vec::new();
        for _ in 0..case.connections {
            let stream = TcpStream::connect(address).await.expect("connected");
            stream.set_nodelay(true).expect("it is a socket");
            streams.push(stream);
        }
        ask(streams, case, for_client).await
    });
    let times = client.expect("an executor").join().expect("no panic");
    server.expect("an executor").join().expect("no panic");
    times
}

async fn serve(listener: TcpListener, case: Case, control: Arc<Control>) {
    let mut serving = Vec::new();
    for _ in 0..case.connections {
        let stream = listener.accept().await.expect("accepted");
        stream.set_nodelay(true).expect("it is a socket");
        let control = Arc::clone(&control);
        serving.push(spawn_local(async move {
            if case.one_way {
                take_in(stream, case.bytes, &control).await;
            } else {
                echo(stream).await;
            }
        }));
    }
    for each in serving {
        each.await;
    }
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; ECHO_BYTES];
    loop {
        let count = stream.read(&mut buffer).await.expect("read");
        if count == 0 {
            return;
        }
        stream.write_all(&buffer[..count]).await.expect("sent");
    }
}

async fn take_in(mut stream: TcpStream, bytes: usize, control: &Control) {
    let mut buffer = vec![0; bytes];
    loop {
        match stream.read(&mut buffer).await.expect("read") {
            0 => return,
            count => control.count(count),
        }
    }
}

async fn ask(streams: Vec<TcpStream>, case: Case, control: Arc<Control>) -> Vec<u64> {
    let mut asking = Vec::new();
    for mut stream in streams {
        let control = Arc::clone(&control);
        asking.push(spawn_local(async move {
            let message = vec![7; case.bytes];
            let mut trips = Trips::new(&control);
            let mut answer = vec![0; case.bytes];
            while !control.is_over() {
                let begun = Instant::now();
                stream.write_all(&message).await.expect("sent");
                if case.one_way {
                    continue;
                }
                stream.read_exact(&mut answer).await.expect("answered");
                trips.note(begun);
            }
            trips.times
        }));
    }
    control.connected();
    let mut times = Vec::new();
    for each in asking {
        times.append(&mut each.await);
    }
    times
}
