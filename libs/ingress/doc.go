// Package ingress is the one webhook server of all adapters: it takes a provider's request in, has the
// channel verify and normalise it, seals what is personal, and answers 2xx once the events are durable.
//
// What is guaranteed:
//
//   - A 2xx means that every event of the request is acknowledged by the brokers, or lies fsynced in the
//     spool, or was not the mesh's to keep (an account nobody connected, a person nobody knows, an unknown
//     type) and was counted. Where neither broker nor spool takes an event, the answer is 503.
//   - Nothing is parsed before its signature is verified.
//   - The broker or the registry being away costs a request its budget once: breakers then send requests
//     straight to the spool until a probe succeeds.
//   - Ids and conversation keys are the same for every redelivery and for every way through: what was
//     spooled, or published twice, is known by its id.
//   - An event in the spool is sealed to the registry's spool key of the day. An event that fails for its
//     data is set aside on the volume, counted, and delays none behind it. It opens for as long as its
//     spool key lives; put back into the spool's folder it is tried again at the next start.
//   - No log line, metric, header or key carries anything of a person.
//
// A request goes through handler.go (limits, whose it is), adapter, person.go and event.go (subjects, the
// sealed event), deliver.go (publish, else spool). drain.go brings home what was spooled.
package ingress
