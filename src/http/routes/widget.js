// Sequor's widget: shows lists of recommended items in a page.
//
//   <script src="https://sequor.example/v1/capture.js" defer></script>
//   <script src="https://sequor.example/v1/widget.js" defer></script>
//   <div data-sequor-placement="product" data-item="tea">shown if there is no list</div>
//
//   data-token="..."             on the script: the user token of the visitor, if the API requires keys
//   data-styles="off"            on the script: no default styles
//   data-sequor-placement="..."  on an element: the placement of its list
//   data-item="..."              the context item
//   data-items="..."             several context items, separated by commas
//   data-limit="..."             the length of the list
//   data-filter="..."            a filter expression
//   data-heading="..."           a heading above the list, which also labels it
//   data-currency="EUR"          on the element or around it: the currency of prices
//   data-template="id"           the <template> of a card; default: a <template> inside the element
//   data-field="title"           in a template: the field of the item that the element shows: title, price, brand, category, image, url, item_id
//   Sequor.refresh(element)      loads the list of an element again; without an element, all lists
//   Sequor.token = "..."         replaces the user token
//   Sequor.card = (item, card, element) => ...  changes a card (`window.Sequor = { card }` before this script); returns another node for it, or false to leave the item out
//
// The beacon knows the visitor, and reports the cards that were in view and the clicks on them. If the beacon is not on the page, or if nothing may be stored or sent, the list depends on the context items only, and nothing is reported.
// An error leaves the content of the element as it was.
(() => {
const win = window, doc = document, me = doc.currentScript;
// The page may have set `card` or `token` before this script runs.
const Sequor = (win.Sequor ||= {});
if (Sequor.refresh) return;
const selector = "[data-sequor-placement]:not([data-sequor-recommendation])";
const styles = `@layer sequor{
.sequor-list{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,var(--sequor-card-width,11rem)),1fr));gap:var(--sequor-gap,1rem);list-style:none;margin:0;padding:0}
.sequor-link{display:flex;flex-direction:column;gap:.25rem;color:inherit;text-decoration:none}
.sequor-link:hover .sequor-title,.sequor-link:focus-visible .sequor-title{text-decoration:underline}
.sequor-image{width:100%;height:auto;aspect-ratio:var(--sequor-image-ratio,1);object-fit:cover;border-radius:var(--sequor-radius,.5rem)}
.sequor-price{font-weight:600}
}`;
// The state of each element: the content without a list, the parameters of the last request, and the number of requests.
const states = new WeakMap();
// The beacon's script may run later.
const ready = new Promise((go) => win.sequor || doc.readyState == "complete" ? go() : win.addEventListener("load", go));

const safeUrl = (text) => {
  try {
    const url = new URL(text, doc.baseURI);
    return text && /^https?:$/.test(url.protocol) ? url.href : undefined;
  } catch {}
};

const formatPrice = (price, element) => {
  const language = element.closest("[lang]")?.lang || undefined;
  const currency = element.closest("[data-currency]")?.dataset.currency;
  try {
    return new Intl.NumberFormat(language, currency ? { style: "currency", currency } : { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(price);
  } catch {
    return `${price}`;
  }
};

const create = (name, part, field) => {
  const element = doc.createElement(name);
  element.className = `sequor-${part}`;
  if (field) element.dataset.field = field;
  return element;
};

const fill = (target, value, title) => {
  const { field } = target.dataset;
  if (value == null) return field == "url" ? target.removeAttribute("href") : target.remove();
  if (field == "url") {
    target.href = value;
  } else if (field == "image") {
    target.loading = "lazy";
    target.alt ||= title;
    target.onerror = () => target.remove();
    target.src = value;
  } else {
    target.textContent = value;
  }
};

const createCard = (item, element, template) => {
  let card = create("li", "card");
  if (template) {
    const content = doc.importNode(template.content, true);
    const root = content.firstElementChild;
    if (root?.localName == "li") {
      card = root;
      card.classList.add("sequor-card");
    } else {
      card.append(content);
    }
  } else {
    const link = create("a", "link", "url");
    link.append(create("img", "image", "image"), create("span", "title", "title"), create("span", "price", "price"));
    card.append(link);
  }
  const targets = [...card.querySelectorAll("[data-field]")];
  // A title next to the image says what the image shows.
  const title = targets.some(({ dataset }) => dataset.field == "title") ? "" : item.title;
  targets.forEach((target) => fill(target, target.dataset.field == "price" && item.price != null ? formatPrice(item.price, element) : item[target.dataset.field], title));
  try {
    const made = Sequor.card?.(item, card, element);
    if (made === false) return;
    if (made instanceof Node && made != card) {
      if (made.localName == "li") card = made;
      else card.replaceChildren(made);
    }
  } catch (error) {
    console.error(error);
  }
  card.dataset.sequorItem = item.item_id;
  return card;
};

const emit = (element, name, detail) => element.dispatchEvent(new CustomEvent(`sequor:${name}`, { bubbles: true, cancelable: true, detail }));

const request = async ({ dataset }, visitor) => {
  const { sequorPlacement: placement, item, items: more = "", filter } = dataset;
  const items = [...more.split(","), item].filter(Boolean);
  const limit = +dataset.limit || undefined;
  const options = { credentials: "omit", signal: AbortSignal.timeout(5000) };
  let path = "recommendations";
  if (visitor) {
    // The list itself is no impression. The beacon reports what was in view, if the visitor consents.
    const query = new URLSearchParams({ placement, details: true, consent: "session" });
    Object.entries({ limit, filter, items: more, item, exclude: items.join() }).forEach(([name, value]) => value && query.set(name, value));
    path = `users/${encodeURIComponent(visitor.user)}/recommendations?${query}`;
    if (Sequor.token) options.headers = { authorization: `Bearer ${Sequor.token}` };
  } else {
    options.method = "POST";
    options.body = JSON.stringify({ placement, details: true, items, exclude: items, limit, filter });
  }
  const response = await fetch(new URL(path, me.src), options);
  const answer = await response.json();
  if (!response.ok) throw Error(answer.detail || answer.title);
  return answer;
};

const show = (element, state, answer, visitor) => {
  const { sequorPlacement: placement, heading, template: id } = element.dataset;
  const templates = [...element.children].filter((child) => child.localName == "template");
  state.fallback ||= [...element.childNodes].filter((node) => !templates.includes(node));
  const template = (id && doc.getElementById(id)) || templates[0];
  const items = (answer?.items || []).map(({ item_id, details = {} }, position) => ({ ...details, item_id, position, title: details.title || item_id, category: details.categories?.[0], url: safeUrl(details.url), image: safeUrl(details.image) }));
  const cards = items.map((item) => createCard(item, element, template)).filter(Boolean);
  let content = state.fallback;
  if (cards.length) {
    const list = create("ul", "list");
    // Without this role, Safari does not announce a list whose markers are hidden.
    list.setAttribute("role", "list");
    if (visitor) Object.assign(list.dataset, { sequorRecommendation: answer.recommendation_id, sequorPlacement: placement });
    list.append(...cards);
    content = [list];
    if (heading) {
      list.setAttribute("aria-label", heading);
      const title = create("h2", "heading");
      title.textContent = heading;
      content.unshift(title);
    }
    list.addEventListener("click", (event) => {
      const position = cards.indexOf(event.target.closest(".sequor-card,[data-sequor-item]"));
      if (position >= 0 && !emit(element, "click", { ...detail, item_id: cards[position].dataset.sequorItem, position })) event.preventDefault();
    });
  }
  const detail = { placement, recommendation_id: answer?.recommendation_id, items: cards.map((card) => card.dataset.sequorItem) };
  // A focused card stays focused, if the new list has its item.
  const focused = element.contains(doc.activeElement) && doc.activeElement.closest("[data-sequor-item]")?.dataset.sequorItem;
  element.replaceChildren(...templates, ...content);
  element.dataset.sequorState = cards.length ? "shown" : "fallback";
  if (focused) cards.find((card) => card.dataset.sequorItem == focused)?.querySelector("a")?.focus({ preventScroll: true });
  if (cards.length) emit(element, "shown", detail);
};

const load = async (element) => {
  const state = states.get(element), number = (state.number = (state.number || 0) + 1);
  await ready;
  const visitor = win.sequor?.visitor?.();
  let answer;
  try {
    answer = await request(element, visitor);
  } catch (error) {
    console.warn(`Sequor: no list for the placement ${element.dataset.sequorPlacement}: ${error.message}`);
  }
  // A later request replaces this one.
  if (state.number == number) show(element, state, answer, visitor);
};

// A list is loaded when its element is near the viewport.
const observer = new IntersectionObserver((changes) => changes.forEach(({ target, isIntersecting }) => {
  if (!isIntersecting) return;
  observer.unobserve(target);
  load(target);
}), { rootMargin: "400px" });

const names = ["sequorPlacement", "item", "items", "limit", "filter", "heading", "template"];
const watch = (element, again) => {
  const key = names.map((name) => element.dataset[name]).join("\n");
  const state = states.get(element) || {};
  if (!again && state.key == key) return;
  state.key = key;
  states.set(element, state);
  observer.unobserve(element);
  observer.observe(element);
};

const scan = (again) => doc.querySelectorAll(selector).forEach((element) => watch(element, again));
Sequor.token ||= me.dataset.token;
Sequor.refresh = (element) => element ? watch(element, true) : scan(true);
try {
  // Unlike a <style> element, such a sheet needs no permission of the page's CSP.
  const sheet = new CSSStyleSheet();
  if (me.dataset.styles != "off") {
    sheet.replaceSync(styles);
    doc.adoptedStyleSheets = [...doc.adoptedStyleSheets, sheet];
  }
} catch {}
new MutationObserver(() => scan()).observe(doc, { subtree: true, childList: true, attributeFilter: ["data-sequor-placement", "data-item", "data-items", "data-limit", "data-filter", "data-heading", "data-template"] });
scan();
})();
