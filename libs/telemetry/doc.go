// Package telemetry sets OpenTelemetry up, carries traces over Kafka headers, and logs JSON.
//
// Whatever a service hands it, what leaves carries ids and classes only:
//
//   - Log attributes whose key names personal data or a secret are masked; strings lose what looks like an
//     address, a number, a key or a quotation; errors of other people's packages show as their type and
//     code, never as their text.
//   - Spans keep the attributes of a closed list and lose error texts and stack traces.
//   - Spans and durations of servers carry their route, never an address, path or name of a caller.
//
// It sets no globals: two services in one process have a Telemetry each (For), with one /metrics.
package telemetry
