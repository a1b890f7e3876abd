// Sends a shopper's events with RudderStack's library for Node: rudder_shopper.js MODULE API WRITE_KEY

const [, , modulePath, api, writeKey] = process.argv;
const Analytics = require(modulePath);

const failures = [];
const client = new Analytics(writeKey, { dataPlaneUrl: api, errorHandler: (error) => failures.push(String(error)) });
const tea = { product_id: "tea", price: 4.5 };
client.track({ anonymousId: "visitor", event: "Product Viewed", properties: tea, timestamp: new Date() });
client.track({ userId: "eve", event: "Products Searched", properties: { query: "tea" }, context: { sessionId: "s-eve" } });
client.page({ userId: "eve", category: "Shop", name: "Home", properties: {} });
client.track({ userId: "eve", event: "Product Added", properties: { ...tea, quantity: 2 } });
const products = [tea, { product_id: "cup", price: 3 }];
client.track({ userId: "eve", event: "Order Completed", properties: { order_id: "1", products } });
client.group({ userId: "eve", groupId: "tea drinkers" });
client.track({ userId: "eve", event: "Moon Landed" });
client.identify({ userId: "eve", anonymousId: "visitor", traits: { plan: "free" } });
client.flush().then(
  () => process.exit(failures.length > 0 ? 1 : 0),
  (error) => {
    console.error(error, failures);
    process.exit(1);
  },
);
