/** Names for the types of the API description. Field names are those of the API. */

import type { components, operations } from "./openapi.js";

type Schemas = components["schemas"];
type UserListQuery = NonNullable<operations["recommendations"]["parameters"]["query"]>;
type SessionListBody = Schemas["SessionRequest"];

/** A user event. The client sets `event_id` if it is missing, so that a retry counts once. */
export type Event = Schemas["Event"];
export type Receipt = Schemas["Receipt"];
export type Rejection = Schemas["ValidationError"];
export type ChangeReceipt = Schemas["ChangeReceipt"];
export type ImpressionReceipt = Schemas["ImpressionReceipt"];
export type Recommendations = Schemas["Recommendation"];
export type RecommendedItem = Schemas["RecommendedItem"];
export type RankedList = Schemas["RankedList"];
export type RankedItem = Schemas["RankedListItem"];
export type ItemList = Schemas["ItemList"];
export type Item = Schemas["CatalogItem"];
export type ItemAttributes = Schemas["ItemAttributes"];
export type ItemChange = Schemas["ItemChange"];
export type UserAttributes = NonNullable<Schemas["UserAttributes"]["attributes"]>;
export type PlacementConfig = Schemas["PlacementConfig"];
export type Problem = Schemas["Problem"];
export type Context = Record<string, Schemas["ContextValue"]>;

/** Parameters of a list for a user, see docs/recommendations.md. */
export type ListParams = Omit<
  UserListQuery,
  "context.NAME" | "exclude" | "items" | "min_offset" | "recommendation_id" | "offset"
> & { context?: Context; exclude?: string[]; items?: string[] };

/** Parameters of a list for a session that the request describes. */
export type SessionListParams = Omit<SessionListBody, "items" | "min_offset">;

/** Parameters of `rank`. */
export type RankParams = Omit<Schemas["RankRequest"], "items" | "min_offset">;

/** An item to rank, or a shown item. `relevance` is the site's own score of the item. */
export interface ListItem {
  item_id: string;
  relevance?: number;
  /** Only for shown items: the score of the model in a response of `rank`. */
  model_score?: number;
}

/** Parameters of similar and trending items. */
export type ItemListParams = NonNullable<operations["similar"]["parameters"]["query"]>;
export type TrendingParams = NonNullable<operations["trending"]["parameters"]["query"]>;

export interface CallOptions {
  /** Ends the call, including its retries. */
  signal?: AbortSignal;
}

export interface ReadOptions extends CallOptions {
  /** A receipt that the list must include, or a journal offset (`min_offset`). */
  after?: { offset?: number | null } | number;
}
