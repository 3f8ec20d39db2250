// Package shopify is the adapter of Shopify shops: what their signed webhooks tell of orders, checkouts and customers
// becomes commerce events and profiles, and orders whose webhook never came are asked for.
//
// Everything about an order comes in the order itself, with its refunds and fulfilments; each of these is an object of
// its own that names the order. What was asked for and what was told agree in their ids, so that each state counts
// once, whichever way and however often it came.
//
// Nothing is sent from here: people are answered over other channels, and connect sets an order's note and a customer's
// tags, of which these webhooks then tell.
//
// Bodies are read by a few types of this package's own, not by those of go-shopify: its calls take no context, one
// field that is not as expected fails the whole, and its decimals write "10.00" as "10".
//
// The rules come from https://shopify.dev/docs/apps/build/webhooks and https://shopify.dev/docs/api/admin-rest.
package shopify
