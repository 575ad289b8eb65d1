/** Markup: htm's templates make Preact's elements. */
import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);
