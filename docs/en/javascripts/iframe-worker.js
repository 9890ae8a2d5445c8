// Search of a site that is opened from the disk: browsers start no worker for such a page, so its script runs in a frame.
(() => {
  if (location.protocol !== 'file:') return;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.onmessage = null;
      this.frame = document.createElement('iframe');
      this.frame.hidden = true;
      this.frame.srcdoc = '<!doctype html><body></body>';
      this.ready = new Promise((done) => this.frame.addEventListener('load', done, { once: true })).then(() => {
        const inside = this.frame.contentWindow;
        inside.postMessage = (data) => this.receive(data);
        inside.importScripts = async (...urls) => {
          for (const each of urls) await this.load(each);
        };
        return this.load(url);
      });
      document.body.append(this.frame);
    }

    load(url) {
      return new Promise((done, failed) => {
        const script = this.frame.contentDocument.createElement('script');
        script.src = new URL(url, location.href).href;
        script.onload = done;
        script.onerror = () => failed(new Error(`cannot load ${script.src}`));
        this.frame.contentDocument.body.append(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => {
        const inside = this.frame.contentWindow;
        inside.dispatchEvent(new inside.MessageEvent('message', { data }));
      });
    }

    receive(data) {
      const event = new MessageEvent('message', { data });
      if (this.onmessage) this.onmessage(event);
      this.dispatchEvent(event);
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.IFrameWorker = FrameWorker; // by this name the theme's search finds its files from within a frame
  window.Worker = FrameWorker;
})();
