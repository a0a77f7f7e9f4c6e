// A program around the C++ original of RakNet for tests to talk to:
//
//	node peer.js LIBRARY [-role client] [-addr HOST:PORT] ...
//
// LIBRARY is the native module of the package raknet-native. What the program does is
// set by flags; it reports and takes orders as rakpeer does (../raknetgo).
'use strict'

const { createHash } = require('crypto')
const { createSocket } = require('dgram')
const { createInterface } = require('readline')

const FIRST_USER_ID = 0x80
const ID = { accepted: 16, failed: 17, newIncoming: 19, disconnection: 21, lost: 22, pong: 28 }
const HIGH_PRIORITY = 1
const RELIABLE_ORDERED = 3
const LIFETIME = 300_000

const [library, ...argv] = process.argv.slice(2)
const { RakClient, RakServer } = require(library)
const flags = {
  role: 'server', addr: '127.0.0.1:0', protocol: '11', motd: '', echo: false, send: '0', seed: '1', size: '0',
  longest: '1350', expect: '0', reliability: String(RELIABLE_ORDERED), channels: '1'
}
for (let at = 0; at < argv.length; at++) {
  const name = argv[at].replace(/^-/, '')
  if (!(name in flags)) fail(`there is no flag ${argv[at]}`)
  flags[name] = typeof flags[name] === 'boolean' ? true : argv[++at]
}
const [host, wanted] = flags.addr.split(':')
const sessions = new Map()

function report (event, details = {}) {
  process.stdout.write(JSON.stringify({ event, ...details }) + '\n')
}

function fail (message) {
  report('error', { message })
  process.exit(1)
}

// Message number index of a series, as in ../raknetgo/internal/pattern.
function message (seed, index, size, longest) {
  const length = size || 1 + 977 * index % longest
  const text = createHash('shake128', { outputLength: length - 1 }).update(`${seed}:${index}`)
  return length === 1 ? Buffer.of(0xfe) : Buffer.concat([Buffer.of(0xfe), text.digest()])
}

function enter (event, guid, write) {
  const session = { number: sessions.size + 1, guid, write, messages: 0, bytes: 0, framed: createHash('sha256') }
  sessions.set(guid, session)
  report(event, { session: session.number })
  const count = Number(flags.send)
  if (count) send(session, Number(flags.seed), count, Number(flags.size))
}

function send (session, seed, count, size) {
  for (let index = 0; index < count; index++) {
    session.write(message(seed, index, size, Number(flags.longest)), index % Number(flags.channels))
  }
  report('sent', { session: session.number, messages: count })
}

function received (session, event) {
  const framed = session.framed.copy().digest('hex')
  report(event, { session: session.number, messages: session.messages, bytes: session.bytes, framed })
}

function take (session, data) {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(data.length)
  session.framed.update(length).update(data)
  session.messages++
  session.bytes += data.length
  if (flags.echo) session.write(Buffer.from(data), 0)
  if (session.messages === Number(flags.expect)) received(session, 'received')
}

// What is sent has to have an ArrayBuffer of its own.
function own (data) {
  return new Uint8Array(data).buffer
}

function heard (data, address, guid, entered) {
  const id = data[0]
  const session = sessions.get(guid)
  if (id >= FIRST_USER_ID) {
    take(session, data)
  } else if (id === ID.pong) {
    report('pong', { data: data.subarray(5).toString() })
  } else if (id === ID.newIncoming || id === ID.accepted) {
    entered(address, guid)
  } else if (session && (id === ID.disconnection || id === ID.lost)) {
    report('ended', { session: session.number, reason: id === ID.lost ? 'lost' : 'disconnection' })
  } else if (id === ID.failed) {
    fail('the attempt to connect failed')
  }
}

let close

function serve (port) {
  const server = new RakServer(host, port, { maxConnections: 100, protocolVersion: Number(flags.protocol) })
  if (flags.motd) server.setPongResponse(Buffer.from(flags.motd))
  server.listen((packets) => {
    for (const [buffer, address, guid] of packets) {
      heard(Buffer.from(buffer), address, guid, (address, guid) => {
        const [peer, peerPort] = address.split('/')
        enter('accepted', guid, (data, channel) => server.send(
          peer, Number(peerPort), own(data), HIGH_PRIORITY, Number(flags.reliability), channel, false))
      })
    }
  })
  close = (session) => server.kick(session.guid, false)
  report('listening', { port })
}

function dial () {
  const client = new RakClient(host, Number(wanted), { protocolVersion: Number(flags.protocol) })
  client.listen((buffers, address, guid) => {
    for (const buffer of buffers) {
      heard(Buffer.from(buffer), address, guid, (address, guid) => {
        enter('dialled', guid, (data, channel) => client.send(
          own(data), HIGH_PRIORITY, Number(flags.reliability), channel, false))
      })
    }
  }, client)
  close = () => client.close()
  client.ping()
  client.connect(client)
}

function obey (order) {
  const session = [...sessions.values()][order.session - 1]
  switch (order.do) {
    case 'send': return send(session, order.seed, order.count, order.size || 0)
    case 'report': return received(session, 'report')
    case 'close': return close(session)
    case 'counters': return report('counters', { counters: {} })
    default: fail(`no order is called ${order.do}`)
  }
}

setTimeout(() => fail('still running'), LIFETIME).unref()
const orders = createInterface({ input: process.stdin })
orders.on('line', (line) => obey(JSON.parse(line)))
orders.on('close', () => process.exit(0))
if (flags.role === 'client') {
  dial()
} else {
  // The library does not tell which port it got, so find a free one for it.
  const probe = createSocket('udp4')
  probe.bind(Number(wanted), host, () => {
    const { port } = probe.address()
    probe.close(() => serve(port))
  })
}
