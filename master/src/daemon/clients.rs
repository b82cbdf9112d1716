//! One client of the daemon: its request, the questions it has to answer, the reply.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fakessh_protocol::failure::{Failure, FailureKind};
use fakessh_unix::datagram::{CutShort, Datagram};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::contexts::{self, HeldContext};
use super::forward_listing::{self, ForwardListing};
use super::listing::Listing;
use super::messages::{Messages, done};
use super::request::Request;
use super::runs;
use super::shared::{Busy, MasterState};
use crate::caller::Caller;
use crate::control::{AskedClient, Envelope, Heard, PROTOCOL, Reply, heard, not_understood};
use crate::fd_limit;
use crate::socket::Socket;

/// Messages of a client that may wait, each with its descriptors. A client that sends more waits.
const WAITING: usize = 16;

/// A request that was made less than this time before the end of the master is done by the next one:
/// it was not meant to be stopped.
const JUST_ARRIVED: Duration = Duration::from_secs(1);

/// Serves one client to its end. When it goes away, what it asked for is given up.
pub(super) async fn serve(shared: Arc<MasterState>, socket: Socket) {
    let _busy = Busy::new(&shared);
    let request = match socket.receive().await {
        Ok(Some(request)) => request,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "a client sent something else than a request");
            if error.downcast::<CutShort>().is_ok() {
                let reply = serde_json::to_vec(&Reply::Failed(fd_limit::refusal()));
                let _ = socket.send(&reply.unwrap_or_default(), &[]).await;
            }
            return;
        }
    };
    let (client, answers) = AskedClient::new(socket);
    let client = Arc::new(client);
    let listener = client.clone();
    let (sender, mut messages) = mpsc::channel(WAITING);
    let listen = async move {
        loop {
            let Datagram { payload, descriptors } = match listener.socket().receive().await {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(error) => {
                    // A program that there are no descriptors for is refused, and others go on.
                    let Ok(cut) = error.downcast::<CutShort>() else { break };
                    let failed = Reply::Failed(fd_limit::refusal());
                    match contexts::session_of(cut.descriptors) {
                        Some(session) => drop(session.reply(&failed).await),
                        None => {
                            let _ = listener.reply(&failed).await;
                            break;
                        }
                    }
                    continue;
                }
            };
            match heard(payload) {
                Ok(Heard::Answer(answer)) => drop(answers.send(answer).await),
                Ok(Heard::Message(message)) => drop(sender.send((message, descriptors)).await),
                Err(error) => {
                    tracing::warn!(%error, "a client sent something that is no message");
                    let failed = Reply::Failed(not_understood(&error));
                    // What was to be started has a socket of its own, and others go on.
                    if let Some(session) = contexts::session_of(descriptors) {
                        let _ = session.reply(&failed).await;
                        continue;
                    }
                    let _ = listener.reply(&failed).await;
                    break;
                }
            }
        }
    };
    let mut listen = std::pin::pin!(listen);
    let (reply, context) = tokio::select! {
        done = work(&shared, &client, &mut messages, request) => done,
        () = &mut listen => return,
    };
    let _ = client.reply(&reply).await;
    let Some(context) = context else { return };
    // What the client asks for before it goes is begun: the messages end with the listening.
    let listen = async {
        listen.await;
        std::future::pending().await
    };
    tokio::select! {
        reply = context.serve(&shared, &client, &mut messages) => {
            if let Some(reply) = reply {
                let _ = client.reply(&reply).await;
            }
        }
        () = listen => {}
    }
}

/// Does what a client asks for. Gives what the client is told, and the context that the connection
/// stands for from then on.
async fn work(
    shared: &Arc<MasterState>,
    client: &Arc<AskedClient>,
    messages: &mut Messages,
    request: Datagram,
) -> (Reply, Option<HeldContext>) {
    let begun = Instant::now();
    let reply = match open(&request.payload, client.clone()) {
        Ok((wanted, caller)) => {
            handle(shared, client, messages, wanted, (&caller, request.descriptors)).await
        }
        Err(why) => Err(why),
    };
    let reply = match reply {
        Ok(done) => return done,
        // Whatever it looked like, the reason is that this master ends. The next one will do it.
        Err(_) if shared.registry.is_closing() && begun.elapsed() < JUST_ARRIVED => Reply::Ending,
        Err(_) if shared.registry.is_closing() => {
            let text = "the master was stopped (fakessh stop) before it was done";
            Reply::Failed(Failure::other(text))
        }
        Err(failure) => Reply::Failed(failure),
    };
    (reply, None)
}

/// Reads a request; one of another protocol is refused before it is understood.
fn open(payload: &[u8], client: Arc<AskedClient>) -> Result<(Request, Caller), Failure> {
    let malformed =
        |error: serde_json::Error| Failure::other(format!("the request can't be read: {error}"));
    let value: Value = serde_json::from_slice(payload).map_err(malformed)?;
    // Clients that are older than protocols name none.
    let protocol = value["protocol"].as_u64().unwrap_or(0);
    // Any client may end a master of another version: it is the way out.
    if value["request"] == json!(Request::Stop) {
        let caller = Caller { environment: Vec::new(), directory: "/".into(), ask: client };
        return Ok((Request::Stop, caller));
    }
    if !(1..=u64::from(PROTOCOL)).contains(&protocol) {
        let message = format!(
            "the master that runs is fakessh {}, which speaks the control protocols 1 to \
             {PROTOCOL}, and this program speaks {protocol}; run `fakessh stop` and try again",
            crate::VERSION,
        );
        return Err(Failure::new(FailureKind::Version, message));
    }
    let envelope: Envelope = serde_json::from_value(value).map_err(malformed)?;
    let request = serde_json::from_value(envelope.request).map_err(malformed)?;
    let variables = envelope.environment.into_iter();
    let caller = Caller {
        environment: variables.map(|(name, value)| (name.into(), value.into())).collect(),
        directory: PathBuf::from(std::ffi::OsString::from(envelope.directory)),
        ask: client,
    };
    Ok((request, caller))
}

/// Does what a request asks for.
async fn handle(
    shared: &Arc<MasterState>,
    client: &Arc<AskedClient>,
    messages: &mut Messages,
    request: Request,
    (caller, descriptors): (&Caller, Vec<OwnedFd>),
) -> Result<(Reply, Option<HeldContext>), Failure> {
    let reply = match request {
        Request::Connect(request) => {
            let context = HeldContext::connect(shared, request, caller).await?;
            return Ok((done(&context.reached())?, Some(context)));
        }
        Request::Run(request) => {
            runs::run(shared, client, messages, *request, (caller, descriptors)).await?
        }
        Request::List => done(&Listing::of(&shared.registry.tree()))?,
        Request::Close(names) => {
            shared.registry.close(&names).await.map_err(|error| error.failure())?;
            done(&Value::Null)?
        }
        Request::Forwards => done(&ForwardListing::of(shared.registry.forwards()))?,
        Request::CancelForwards(ids) => {
            forward_listing::cancel(shared.registry.forwards(), &ids).await?;
            done(&Value::Null)?
        }
        Request::CloseAll => {
            shared.registry.close_all().await;
            done(&Value::Null)?
        }
        Request::Lock { idle } => {
            shared.registry.lock(idle).await;
            done(&Value::Null)?
        }
        Request::Stop => {
            // The daemon's loop takes the socket away before it closes the contexts: a client that
            // is turned away meanwhile finds no master, and starts the next one.
            shared.stop.notify_one();
            // The end of this connection is the end of the master.
            std::future::pending().await
        }
    };
    Ok((reply, None))
}
