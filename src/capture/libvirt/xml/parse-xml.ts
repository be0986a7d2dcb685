import { DOMParser, type Document, type Element, type Node, XMLSerializer } from '@xmldom/xmldom';
import { select } from 'xpath';
import { messageOf, SendenseError } from '../../../base/sendense-error.ts';

/** @throws LIBVIRT_XML_INVALID */
export function parseXml(text: string): Document {
  const refuse = (_level: string, message: string): never => {
    throw new Error(message);
  };
  try {
    return new DOMParser({ onError: refuse }).parseFromString(text, 'text/xml');
  } catch (error) {
    throw new SendenseError('LIBVIRT_XML_INVALID', { detail: messageOf(error).split('\n')[0] ?? '' }, error);
  }
}

export const writeXml = (node: Document | Element): string => new XMLSerializer().serializeToString(node);

/** The elements that an XPath finds, in the order of the document. */
export function elementsAt(node: Document | Element, xpath: string): Element[] {
  // xpath is typed for a browser's DOM; what it gives back are our own nodes
  const found = select(xpath, node as unknown as globalThis.Node) as unknown;
  return Array.isArray(found) ? (found as Node[]).filter((one): one is Element => one.nodeType === 1) : [];
}

/** The text of the first thing that an XPath finds, an attribute or an element; null when there is none. */
export function textAt(node: Document | Element, xpath: string): string | null {
  const found = select(xpath, node as unknown as globalThis.Node) as unknown;
  const [first] = Array.isArray(found) ? (found as Node[]) : [];
  return first === undefined ? null : (first.textContent ?? '');
}

/** A new child at the end. Attributes that are null are left out. */
export function append(
  parent: Element,
  name: string,
  attributes: Readonly<Record<string, string | null>> = {},
  text: string | null = null,
): Element {
  const document = parent.ownerDocument;
  if (document === null) throw new SendenseError('INTERNAL', { detail: 'an element without a document' });
  const child = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) child.setAttribute(key, value);
  if (text !== null) child.appendChild(document.createTextNode(text));
  parent.appendChild(child);
  return child;
}
